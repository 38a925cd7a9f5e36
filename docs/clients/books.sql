-- What a backend keeps so that each result is booked once and no message is missed.
-- Both clients beside this file use it, and either goes on with the other's.
CREATE TABLE IF NOT EXISTS result (      -- one row a result, for ever
    order_id INTEGER NOT NULL,
    delivery_id TEXT NOT NULL,
    unit INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    finished_at TEXT NOT NULL,
    PRIMARY KEY (order_id, delivery_id, unit, revision)
);
CREATE VIEW IF NOT EXISTS unit AS        -- what counts: the highest revision of each unit
    SELECT order_id, delivery_id, unit, max(revision) AS revision, outcome, reason
    FROM result GROUP BY order_id, delivery_id, unit;
CREATE TABLE IF NOT EXISTS command (     -- what was said of commands; a repeat has the same `at`
    order_id INTEGER NOT NULL,
    delivery_id TEXT NOT NULL,
    status TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at TEXT NOT NULL,
    code TEXT,
    command_executed TEXT NOT NULL,
    PRIMARY KEY (order_id, delivery_id, status, revision, at)
);
CREATE TABLE IF NOT EXISTS place (       -- all up to `through` came; there is more, up to `last`
    machine_no TEXT NOT NULL,
    journal INTEGER NOT NULL,
    through INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (machine_no, journal)
);
CREATE TABLE IF NOT EXISTS ahead (       -- what came beyond a gap
    machine_no TEXT NOT NULL,
    journal INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (machine_no, journal, seq)
);
