"""A server that only lists: COUNT objects "list/NUMBER.npy" in any bucket, 1,000 a page, as S3 does. Prints its port."""
import http.server
import sys
import urllib.parse

COUNT = int(sys.argv[1])
PAGE = 1000


class Listing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        begin = int(query.get("continuation-token", ["0"])[0])
        end = min(COUNT, begin + PAGE)
        objects = "".join(f"<Contents><Key>list/{i:09}.npy</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                          f"<ETag>&quot;{i:032x}&quot;</ETag><Size>12416</Size><StorageClass>STANDARD</StorageClass>"
                          "</Contents>" for i in range(begin, end))
        more = (f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>" if end < COUNT
                else "<IsTruncated>false</IsTruncated>")
        body = ('<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
                f"<Prefix>list/</Prefix><KeyCount>{end - begin}</KeyCount><MaxKeys>{PAGE}</MaxKeys>{more}{objects}"
                "</ListBucketResult>").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listing)
print(server.server_address[1], flush=True)
server.serve_forever()
