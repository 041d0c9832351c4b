"""HTTP/1.1 as uvicorn speaks it, but that what is no HTTP is refused in OpenAI's shape as well."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kamerton.server.errors import ApiError, response_to


class Protocol(H11Protocol):
    """The protocol of every connection (`uvicorn.Config(http=Protocol)`)."""

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, where nothing has been answered yet, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = response_to(ApiError(400, msg, code="invalid_http"), {"Connection": "close"})
            head = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # what was being answered has nobody to hear it any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
