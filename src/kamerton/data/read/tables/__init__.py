"""Tables and workbooks as raw rows."""
