"""JSON documents and JSON Lines as raw rows."""
