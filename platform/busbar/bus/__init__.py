"""The bus: carries deliveries from the relay to who works on them.

`transport.py` is the interface, `embedded.py` the transport without a broker, `worker.py` what runs the attempts.
"""
