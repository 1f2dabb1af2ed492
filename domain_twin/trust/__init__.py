"""Who is who, and how it is known: identities, certificates, TLS, signatures.

identity.py  `SpiffeId`, `Role`                        roots.py   `TrustBundle`: each operator's roots
ca.py        `OperatorCA`, `DeviceCA` for trials       sign.py    detached JWS
credentials  a process's own files                     tls.py     gRPC credentials, TLS 1.3 floor
guard.py     the gate before gRPC handlers             probe.py   why a handshake failed
refusal.py   TwinError <-> gRPC status

The modules that import grpc (guard, refusal) are imported by name, never from here.
"""

from domain_twin.trust.identity import Role, SpiffeId

__all__ = ["Role", "SpiffeId"]
