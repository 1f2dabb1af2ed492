"""How a running process is watched: metrics, health, readiness, the service manager's notifications.

Knows nothing of networks or federations: agent, broker and emulator hand in what they count.
"""
