"""The platform's stand-in: the documented order API for merchants on one side, our MQTT contract
for machines on the other.

It plays the platform that sells, so that a sale runs from a merchant's POST to the callback with
what fell, against the real daemon; and it is a worked example for whoever writes a backend.
"""
