"""The bare start: a Python that imports what the daemon imports, and says that it is ready."""

LIBRARIES = """
import asyncio, logging, os, socket, sqlite3, tomllib
import aiohttp.web, paho.mqtt.client, pydantic, serial, serial_asyncio, transitions
asyncio.run(asyncio.sleep(0))
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""
