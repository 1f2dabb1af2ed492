"""Who is who, and how it is known: identities, certificates, TLS, signatures."""
