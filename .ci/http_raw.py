"""http_raw.py HOST:PORT KEYFILE: raw requests of HTTP, each with the status that must come, or 0: no answer.

Behind each of them a second request is sent in the same write, a PUT of a file of its own. If the first is an error of
HTTP, the connection must close without the second having been run; if not, the second must be answered."""
import socket, sys, time

host, port = sys.argv[1].rsplit(":", 1)
key = open(sys.argv[2]).read().strip()
H = f"Host: {host}:{port}\r\n"
A = H + f"Authorization: Bearer {key}\r\n"
G = "GET /api/status HTTP/1.1\r\n"
P = f"PUT /files/raw{port} HTTP/1.1\r\n"
PART = '--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: text/plain\r\n\r\n'
FIELD, END = '--B\r\nContent-Disposition: form-data; name="expire"\r\n\r\n', "\r\n--B--\r\n"
def form(body, kind="multipart/form-data; boundary=B"):
    return "POST /upload HTTP/1.1\r\n" + A + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n" + body
CASES = [  # status, whether the connection goes on, request
    # good ones
    (200, 1, G + A + "\r\n"),
    (200, 1, "GET /api/ HTTP/1.1\r\n" + H + "\r\n"),
    (200, 1, "GET /api/ HTTP/1.1\r\n" + H + "\r\n" + "\r\n"),
    (200, 1, "GET / HTTP/1.1\r\n" + H + "\r\n"),
    (200, 1, "HEAD / HTTP/1.1\r\n" + H + "\r\n"),
    (200, 0, "GET / HTTP/1.0\r\n\r\n"),
    (200, 0, "GET / HTTP/1.0\r\n" + H + "\r\n"),
    (200, 1, "GET / HTTP/1.0\r\n" + H + "Connection: Keep-Alive\r\n\r\n"),
    (200, 0, "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"),
    (200, 0, "GET / HTTP/1.1\r\n" + H + "Connection: close\r\n\r\n"),
    (200, 1, f"GET http://{host}:{port}/ HTTP/1.1\r\n" + H + "\r\n"),
    (200, 1, "GET /?x=1 HTTP/1.1\r\n" + H + "\r\n"),
    (200, 1, "GET / HTTP/1.1\r\nhOST:" + f"{host}:{port}" + "\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\nHost: \t " + f"{host}:{port}" + " \t\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\nHost: LOCALHOST.:80\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\nHost: 127.9.9.9\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\nHost: [::1]:1\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\n" + H + "X: " + "y" * 7000 + "\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\n" + H + "Empty:\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\n" + H + "Content-Length: 0\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\n" + H + "Content-Length: 5\r\n\r\nhello"),
    (201, 1, P + A + "Content-Length: 3\r\n\r\nabc"),
    (200, 1, P + A + "Content-Length: 0\r\n\r\n"),
    (200, 1, P + A + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    (200, 1, P + A + "Transfer-Encoding: CHUNKED\r\n\r\n003;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n"),
    (200, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "\r\n"),
    (206, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=1-2\r\n\r\n"),
    (206, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=-1\r\n\r\n"),
    (206, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=1-99999999999\r\n\r\n"),
    (416, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=100-\r\n\r\n"),
    (416, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=-0\r\n\r\n"),
    (200, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=2-1\r\n\r\n"),
    (200, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=0-1,3-4\r\n\r\n"),
    (200, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: bytes=+1-2\r\n\r\n"),
    (200, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "Range: lines=1-2\r\n\r\n"),
    (304, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + "If-None-Match: *\r\n\r\n"),
    (412, 1, f"GET /files/raw{port} HTTP/1.1\r\n" + A + 'If-Match: "x"\r\n\r\n'),
    (412, 1, f"PUT /files/raw{port} HTTP/1.1\r\n" + A + "If-None-Match: *\r\nContent-Length: 0\r\n\r\n"),
    (412, 1, "PUT /files/none HTTP/1.1\r\n" + A + "If-Match: *\r\nContent-Length: 0\r\n\r\n"),
    (404, 1, "GET /files/none HTTP/1.1\r\n" + A + "\r\n"),
    (400, 1, P + A + "Content-Range: bytes 7-9/10\r\nContent-Length: 3\r\n\r\nabc"),
    (400, 1, P + A + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
    (400, 1, f"DELETE /files/raw{port} HTTP/1.1\r\n" + A + 'If-Match: "x"\r\n\r\n'),
    (405, 1, "GET /api/mkdir HTTP/1.1\r\n" + A + "\r\n"),
    (200, 0, "HEAD /api/live HTTP/1.1\r\n" + A + "\r\n"),
    (200, 0, "GET / HTTP/1.1\r\n" + H + "Connection: keep-alive\r\nConnection: x,\tclose\r\n\r\n"),
    (404, 1, "GET /nothing HTTP/1.1\r\n" + A + "\r\n"),
    (404, 1, "GET /apix HTTP/1.1\r\n" + A + "\r\n"),
    (405, 1, "POST / HTTP/1.1\r\n" + A + "Content-Length: 0\r\n\r\n"),
    (405, 1, f"PATCH /files/raw{port} HTTP/1.1\r\n" + A + "Content-Length: 0\r\n\r\n"),
    (405, 1, "GET /login HTTP/1.1\r\n" + A + "\r\n"),
    (409, 1, "GET /files/ HTTP/1.1\r\n" + A + "\r\n"),
    # forms
    (201, 1, form(PART + "abc" + END)),
    (201, 1, form(FIELD + "1d" + "\r\n--B" + PART[3:] + "abc" + END)),
    (201, 1, form(PART + END)),
    (201, 1, form(PART.replace(": form", ":form") + END)),
    (400, 1, form(PART.replace('"f"', '""') + END)),
    (201, 1, form(PART + "--B\r\n-B\r\n--\r\n\r\n--A" + END)),
    (201, 1, form(PART + "abc" + END, "MULTIPART/form-data ; charset=x; boundary=\"B\"")),
    (201, 1, form(PART.replace("form-data", "form-data ; x=y").replace("C", "c", 1) + "abc" + END)),
    (201, 1, form(PART + "abc" + END + "what follows counts for nothing")),
    (400, 1, form(FIELD + "1d" + END)),
    (201, 1, form(PART.replace("filename=\"f\"", "Filename=f.txt;z=\"; filename=no\"") + "abc" + END)),
    (201, 1, form(PART.replace('"f"', '"a\\\\"') + "abc" + END)),
    (201, 1, form(FIELD.replace("expire", "x") + ("1\r\n" + FIELD.replace("expire", "y")) * 1000 +
                  "1\r\n" + PART + "abc" + END)),
    (400, 0, form(PART + "abc\r\n--B")),
    (400, 0, form(PART + "abc\r\n--Bogus\r\ndef" + END)),
    (400, 1, form(FIELD + "never" + "\r\n--B" + PART[3:] + "abc" + END)),
    (400, 0, form(FIELD + "x" * 5000 + END)),
    (400, 0, form("")),
    (400, 0, form("--B")),
    (400, 0, form("--B\r")),
    (400, 0, form("--A" + PART[3:] + "abc" + END)),
    (400, 0, form("\r\n" + PART + "abc" + END)),
    (400, 0, form(PART + "abc")),
    (400, 0, form(PART + "abc\r\n--")),
    (400, 0, form(PART + "abc" + END.replace("\r\n", "\n"))),
    (400, 0, form(PART.replace("\r\n", "\n") + "abc" + END)),
    (400, 0, form("--B\r\nX: " + "y" * 5000 + "\r\n\r\nabc" + END)),
    (400, 1, form(PART.replace('"f"', '"' + "f" * 230 + '"') + "abc" + END)),
    (400, 0, form(PART.replace('"f"', '"a%00b"').replace("%00", "\0") + "abc" + END)),
    (415, 1, form(PART + "abc" + END, "multipart/form-data")),
    (415, 1, form(PART + "abc" + END, "multipart/mixed; boundary=B")),
    (415, 1, form(PART + "abc" + END, "multipart/form-data; boundary=" + "B" * 71)),
    (405, 1, "GET /upload HTTP/1.1\r\n" + A + "\r\n"),
    (404, 1, "GET /download/ HTTP/1.1\r\n" + H + "\r\n"),
    (404, 1, "GET /download/" + "0" * 32 + " HTTP/1.1\r\n" + H + "\r\n"),
    (404, 1, "GET /download/x%20y%0Az HTTP/1.1\r\n" + H + "\r\n"),
    # the request line
    (400, 0, "GET  / HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET / HTTP/1.1 \r\n" + H + "\r\n"),
    (400, 0, "GET /  HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET / \r\n" + H + "\r\n"),
    (400, 0, "GET /\r\n" + H + "\r\n"),
    (400, 0, "GET / HTTP/1.1 x\r\n" + H + "\r\n"),
    (400, 0, "GET / http/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET / HTTP/1\r\n" + H + "\r\n"),
    (400, 0, "GET / HTTP/11.1\r\n" + H + "\r\n"),
    (400, 0, "GET / HTTP/1.1\n" + H + "\r\n"),
    (400, 0, "GET /\x00 HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET /\t HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET /\x80 HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET /\r HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "GET /#x HTTP/1.1\r\n" + H + "\r\n"),
    (400, 0, "OPTIONS * HTTP/1.1\r\n" + H + "\r\n"),
    (505, 0, "GET / HTTP/2.0\r\n" + H + "\r\n"),
    (505, 0, "GET / HTTP/1.2\r\n" + H + "\r\n"),
    (505, 0, "GET / HTTP/0.9\r\n" + H + "\r\n"),
    (414, 0, "GET /" + "x" * 9000 + " HTTP/1.1\r\n" + H + "\r\n"),
    # paths
    (400, 0, "GET /files/../etc/passwd HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/a/./b HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files//a HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/%2e%2e/a HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/%2E%2e HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/a%2fb HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/a%00b HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/a%0 HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/a% HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files/a%zz HTTP/1.1\r\n" + A + "\r\n"),
    (404, 1, "GET /files/%252e%252e/a HTTP/1.1\r\n" + A + "\r\n"),
    (404, 1, "GET /files/%5c..%5c HTTP/1.1\r\n" + A + "\r\n"),
    (400, 1, "GET /files/" + "n" * 256 + " HTTP/1.1\r\n" + A + "\r\n"),
    (400, 0, "GET /files" + "/abcdefg" * 600 + " HTTP/1.1\r\n" + A + "\r\n"),
    # headers
    (400, 0, "GET / HTTP/1.1\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + H + "\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "Host: evil\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\r\n b\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\r\n\tb\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\rb\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\nY: b\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\x00b\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\x01b\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X: a\x7fb\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "nocolon\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + ": novalue\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X(: a\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "X\x80: a\r\n\r\n"),
    (400, 0, "GET / HTTP/1.1\r\n" + H + "\n"),
    (431, 0, "GET / HTTP/1.1\r\n" + H + "X: " + "y" * 9000 + "\r\n\r\n"),
    (431, 0, "GET / HTTP/1.1\r\n" + H + "X: y\r\n" * 70 + "\r\n"),
    (431, 0, "GET / HTTP/1.1\r\n" + H + ("X: " + "y" * 5000 + "\r\n") * 6 + "\r\n"),
    (417, 0, P + A + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\na"),
    # framing
    (400, 0, P + A + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    (400, 0, P + A + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: 3, 3\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: +3\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: -3\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: 0x3\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: 3.0\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: \r\n\r\n"),
    (400, 0, P + A + "Content-Length: 3 3\r\n\r\nabc"),
    (400, 0, P + A + "Content-Length: 99999999999999999999\r\n\r\n"),
    (400, 0, P + A + "Content-Length : 3\r\n\r\nabc"),
    (400, 0, P + A + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (501, 0, P + A + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (501, 0, P + A + "Transfer-Encoding: identity\r\n\r\n"),
    (501, 0, P + A + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (501, 0, P + A + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (501, 0, P + A + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n".replace("\x0b", "\"chunked\"")),
    (400, 0, f"PUT /files/raw{port} HTTP/1.0\r\n" + A + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # chunks
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n4\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n3;" + "x" * 400 + "\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n3;a\x01b\r\nabc\r\n0\r\n\r\n"),
    (400, 0, P + A + "Transfer-Encoding: chunked\r\n\r\n0\r\nx\ny\r\n\r\n"),
    # who asks
    (421, 0, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    (421, 0, "GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n"),
    (421, 0, "GET / HTTP/1.1\r\nHost: 10.11.12.13\r\n\r\n"),
    (421, 0, "GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n"),
    (421, 0, "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n"),
    (421, 0, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (421, 0, "GET http://evil.example/ HTTP/1.1\r\n" + H + "\r\n"),
    (403, 0, "GET / HTTP/1.1\r\n" + H + "Origin: http://evil.example\r\n\r\n"),
    (403, 0, "GET / HTTP/1.1\r\n" + H + "Origin: null\r\n\r\n"),
    (403, 0, "GET / HTTP/1.1\r\n" + H + f"Origin: http://{host}:1\r\n\r\n"),
    (200, 1, "GET / HTTP/1.1\r\n" + H + f"Origin: http://{host}:{port}\r\n\r\n"),
    (403, 0, P + A + "Origin: http://evil.example\r\nX-Dfs: 1\r\nContent-Length: 0\r\n\r\n"),
    (403, 0, P + A + f"Origin: http://{host}:{port}\r\nContent-Length: 0\r\n\r\n"),
    (403, 0, P + A + "Cookie: a=b\r\nContent-Length: 0\r\n\r\n"),
    (403, 0, P + A + "Sec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n"),
    (200, 1, P + A + f"Origin: http://{host}:{port}\r\nX-Dfs: 1\r\nContent-Length: 0\r\n\r\n"),
    (401, 1, G + H + "\r\n"),
    (401, 1, G + H + "Authorization: Bearer " + "0" * 64 + "\r\n\r\n"),
    (401, 1, G + H + "Authorization: Bearer\r\n\r\n"),
    (401, 1, G + H + "Authorization: Basic %%%\r\n\r\n"),
    (401, 1, G + H + "Authorization: Digest x\r\n\r\n"),
    (401, 1, G + H + "Cookie: dfs=99999.00\r\n\r\n"),
    (401, 0, P + H + "Content-Length: 3\r\n\r\nabc"),
    (403, 1, "POST /login HTTP/1.1\r\n" + H + "Content-Length: 5\r\n\r\nkey=x"),
    (400, 1, "POST /api/mkdir HTTP/1.1\r\n" + A + "Content-Length: 0\r\n\r\n"),
    (400, 1, "POST /api/mkdir HTTP/1.1\r\n" + A + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"),
    (400, 1, "POST /api/mkdir HTTP/1.1\r\n" + A + "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n"
     '{"path":1}'),
    (400, 1, "POST /api/mkdir HTTP/1.1\r\n" + A + "Content-Length: 8\r\n\r\npath=%00"),
    (413, 0, "POST /api/mkdir HTTP/1.1\r\n" + A + "Content-Length: 300000\r\n\r\n" + "x" * 300000),
]


def ask(raw, number):
    """Sends the request and the one behind it; returns the status codes of the answers, and whether it closed."""
    second = f"PUT /files/second{port}.{number} HTTP/1.1\r\n" + A + "Content-Length: 0\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall((raw + second).encode("latin-1"))
        codes, data, closed = [], b"", False
        while len(codes) < 2:
            while b"\r\n\r\n" not in data:
                try:
                    got = s.recv(65536)
                except ConnectionResetError:
                    got = b""
                if not got:
                    return codes, True
                data += got
            head, data = data.split(b"\r\n\r\n", 1)
            code = int(head.split()[1])
            if code == 100:
                continue
            fields = dict(l.lower().split(b": ", 1) for l in head.split(b"\r\n")[1:])
            length = int(fields.get(b"content-length", 0))
            if raw.startswith("HEAD") and not codes:
                length = 0
            while len(data) < length:
                got = s.recv(65536)
                if not got:
                    raise SystemExit(f"{raw[:90]!r}: a body that is not whole")
                data += got
            data = data[length:]
            codes.append(code)
        return codes, closed


bad = 0
for number, (want, goes_on, raw) in enumerate(CASES):
    codes, closed = ask(raw, number)
    first = codes[0] if codes else 0
    if first != want or (len(codes) == 2) != bool(goes_on) or (not goes_on and not closed):
        bad += 1
        print(f"{raw[:60]!r} ... {raw[-60:]!r}: {codes}, closed {closed}; "
              f"wanted {want}, {'more' if goes_on else 'no more'}")
for number, (want, goes_on, raw) in enumerate(CASES):  # what was behind an error was not done
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall((f"HEAD /files/second{port}.{number} HTTP/1.1\r\n" + A + "Connection: close\r\n\r\n").encode())
        data = b""
        while True:
            got = s.recv(65536)
            if not got:
                break
            data += got
    done = data.startswith(b"HTTP/1.1 200")
    if done != bool(goes_on):
        bad += 1
        print(f"{raw[:100]!r} ... {raw[-60:]!r}: the request behind it was {'' if done else 'not '}run")
print(f"{len(CASES)} requests, {bad} bad")
sys.exit(bad > 0)
