"""The forms of files and requests, each named after the first version of the package that had it.

A version of the package reads what another has made as long as these are the same. Raise FILES when a file of
a shared model, or what it stands for, changes so that an older version would read it wrongly or not at all;
REQUESTS when a request or an answer does. Two servers must agree about more: roles/server/lockstep.py, and
their WIRE_VERSION.
"""

FILES = "0.1.0"
REQUESTS = "0.1.0"
