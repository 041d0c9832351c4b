"""Answering chats: the client in the server and the process that generates."""
