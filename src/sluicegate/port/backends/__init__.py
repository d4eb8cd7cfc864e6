"""The drivers: io_uring by system calls, and its twin on epoll and threads."""
