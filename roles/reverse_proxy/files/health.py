"""Ask nginx as a browser does: health.py ADDRESS PORT NAME CERTIFICATE. Exits with 1 and a sentence where it does not
answer well.

Only the certificate in the file is trusted, so nginx has to serve this one. It may still be reading its files: it has
half a minute.
"""

import http.client
import socket
import ssl
import sys
import time

address, port, name, certificate = sys.argv[1:]
end = time.monotonic() + 30
while True:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # X509_V_FLAG_PARTIAL_CHAIN: the certificate need not be its own authority.
    context.verify_flags |= 0x80000
    context.load_verify_locations(certificate)
    try:
        connection = http.client.HTTPConnection(name)
        connection.sock = context.wrap_socket(socket.create_connection((address, int(port)), timeout=30),
                                              server_hostname=name)
        connection.request("GET", "/")
        status = connection.getresponse().status
        problem = (
            f"nginx answers {status}: the server behind it does not answer. Is it running?" if status >= 500 else ""
        )
    except ssl.SSLCertVerificationError as error:
        problem = f"nginx does not serve the certificate in {certificate} to https://{name}: {error.verify_message}."
    except (OSError, http.client.HTTPException) as error:
        problem = f"nginx does not answer at {address}, port {port}: {error}."
    if not problem or time.monotonic() > end:
        sys.exit(problem or 0)
    time.sleep(0.2)
