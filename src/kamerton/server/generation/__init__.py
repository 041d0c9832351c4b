"""Text generation for chats: the client in the server, and the worker process that runs the models."""
