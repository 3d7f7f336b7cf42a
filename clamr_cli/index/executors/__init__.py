"""Where the tasks of an index run are done."""
