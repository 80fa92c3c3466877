"""Load a certificate and its key, as the server does. Exits with 1 and a sentence if they do not fit.

check_certificate CERTIFICATE KEY
"""

import ssl
import sys

certificate, key = sys.argv[1:]
try:
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
except OSError as error:
    sys.exit(f"postgresql_tls_certificate {certificate} and postgresql_tls_key {key} can't be used: {error}")
