"""Serves the metrics of the official client as text only."""

import http.server
import threading

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


def serve(port, more=b""):
    """Serves them from now on, and more text behind them."""

    class Target(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = generate_latest() + more
            self.send_response(200)
            self.send_header("content-type", CONTENT_TYPE_LATEST)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Target)
    threading.Thread(target=server.serve_forever, daemon=True).start()
