"""Files to stored rows."""
