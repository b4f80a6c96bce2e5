"""A local web server with adjustable faults."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """The files of the server, its faults, and the requests that it received.

    Attributes:
        files: content by path.
        ranges: whether it supports HTTP ranges.
        limit: bytes after which it breaks each connection; None for never.
        pause: an event that it waits for before it answers; None for no wait.
        requests: (path, Range header) of every request.
    """

    def __init__(self, address):
        self.address = address
        self.files = {}
        self.ranges = True
        self.limit = None
        self.pause = None
        self.requests = []

    def url(self, path):
        return f"{self.address}/{path}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        path, wanted = self.path.strip("/"), self.headers.get("Range")
        site.requests.append((path, wanted))
        if site.pause is not None:
            site.pause.wait(30)
        if path not in site.files:
            self.send_error(404)
            return
        content, begin = site.files[path], 0
        if wanted and site.ranges:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin:][: site.limit])

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serve():
    """Run a server on this machine while the block runs; yield its site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
