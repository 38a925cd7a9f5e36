-- One row while a technician has the machine in service mode; none while it sells.
CREATE TABLE service_mode (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    who TEXT NOT NULL,                       -- who asked for it last
    since REAL NOT NULL                      -- when it began
) STRICT;
