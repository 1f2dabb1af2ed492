"""A guarded gRPC server: `python floor_server.py CERTIFICATE KEY OPERATOR ROOT`. Prints its port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from domain_twin.trust.tls import enforce_tls13_floor, server_credentials


async def main() -> None:
    import grpc

    from domain_twin.trust.guard import Guard
    from domain_twin.trust.roots import TrustBundle

    certificate, key, operator, root = sys.argv[1:]
    trust = TrustBundle.load({operator: Path(root)})
    server = grpc.aio.server(interceptors=[Guard(trust)])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(Path(certificate), Path(key), trust))
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    enforce_tls13_floor()
    asyncio.run(main())
