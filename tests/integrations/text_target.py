"""A target that speaks text only, as a queue-proxy does: it stands in for Knative's, which no registry holds."""

import http.server
import sys

TEXT = b"# TYPE kn_requests_total counter\nkn_requests_total 7\n# TYPE process_open_fds gauge\nprocess_open_fds 8\n"


class Target(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("content-length", str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT)


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Target).serve_forever()
