"""What the tests share: runs, rows, servers, processes, browsers."""
