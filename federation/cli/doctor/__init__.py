"""`fedtwin doctor`: what is wrong here, and how to mend it. `config check` looks at files; this goes on from there.

One file a subject: the installation, certificates, kept state, the broker, devices. All of it reads only.
"""
