"""The console's pages, a module for each subject; ``console.entries`` lists what they answer."""
