-- Acting requests that came over MQTT: begun, and what came of them.
CREATE TABLE requests (
    n INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL,
    at REAL NOT NULL,
    code TEXT,
    message TEXT,
    data TEXT
) STRICT;
