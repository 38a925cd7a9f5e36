"""The clients of docs/clients, run as a backend would."""
