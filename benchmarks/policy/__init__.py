"""What a decision of the policy costs, by kind and number of rules."""
