"""`fedtwin doctor`: what is wrong here, and how to mend it. It goes on where `config check` ends.

One file a subject: the installation, certificates, kept state, the broker, devices. All of it reads only.
"""
