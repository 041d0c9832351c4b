"""The roles of columns: by settings, by usual names, and by the contents of the first rows."""
