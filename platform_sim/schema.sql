-- Times are Unix seconds. Money is text with two decimals, as the API has it.

CREATE TABLE machine (
    machine_no   TEXT PRIMARY KEY,
    appid        TEXT NOT NULL,
    name         TEXT NOT NULL,
    address      TEXT NOT NULL,
    operating    TEXT NOT NULL,             -- OPERATIONAL, MAINTENANCE, TRANSFER
    online       INTEGER NOT NULL DEFAULT 0,
    mode         TEXT NOT NULL DEFAULT '',  -- of its last retained state
    heard_at     REAL,
    created_at   REAL NOT NULL
);

CREATE TABLE cabinet (
    machine_no TEXT NOT NULL REFERENCES machine,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,               -- belt, motor, lock, other
    light_eye  INTEGER NOT NULL,
    PRIMARY KEY (machine_no, name)
);

CREATE TABLE product (                      -- one channel's stock line
    machine_no    TEXT NOT NULL REFERENCES machine,
    product_id    INTEGER NOT NULL,
    title         TEXT NOT NULL,
    price         TEXT NOT NULL,
    category_id   INTEGER NOT NULL,
    cabinet       TEXT NOT NULL,
    channel       TEXT NOT NULL,
    addr          INTEGER NOT NULL,
    code          TEXT NOT NULL,
    x             TEXT NOT NULL,
    y             TEXT NOT NULL,
    capacity      INTEGER NOT NULL,
    stock         INTEGER NOT NULL CHECK (stock >= 0),
    counted_at    TEXT NOT NULL DEFAULT '', -- by the machine, in its words and by its clock
    on_sale       INTEGER NOT NULL,
    floor_status  TEXT NOT NULL DEFAULT '1',
    PRIMARY KEY (machine_no, product_id)
);

CREATE TABLE purchase (                     -- "order" is a word of SQL
    order_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    appid        TEXT NOT NULL,
    machine_no   TEXT NOT NULL REFERENCES machine,
    trade_id     TEXT NOT NULL,
    notify_url   TEXT NOT NULL,
    status       INTEGER NOT NULL,          -- codes of the API, orders.STATUS_NAMES
    created_at   REAL NOT NULL,
    paid_at      REAL,
    notified     INTEGER NOT NULL DEFAULT 0, -- callbacks that were answered
    UNIQUE (appid, trade_id)
);
CREATE INDEX purchase_age ON purchase (created_at);
CREATE INDEX purchase_unpaid ON purchase (created_at) WHERE status IN (0, 5);

CREATE TABLE record (                       -- an order's product line
    record_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id    INTEGER NOT NULL REFERENCES purchase,
    machine_no  TEXT NOT NULL,
    product_id  INTEGER NOT NULL,
    quantity    INTEGER NOT NULL CHECK (quantity > 0),
    status      TEXT NOT NULL,
    returned    INTEGER NOT NULL DEFAULT 0  -- of its quantity, without a delivery: back in stock
);
CREATE INDEX record_live ON record (machine_no, product_id)
    WHERE status IN ('WAITING_PICKED_UP', 'IS_DELIVERING');
CREATE INDEX record_order ON record (order_id);

CREATE TABLE delivery (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id TEXT NOT NULL UNIQUE,
    machine_no  TEXT NOT NULL REFERENCES machine,
    order_id    INTEGER,                    -- NULL: a lane's test
    record_id   INTEGER,
    product_id  INTEGER,
    channel     TEXT NOT NULL,
    kind        TEXT NOT NULL,              -- the cabinet's, for the lock's ceiling
    quantity    INTEGER NOT NULL,
    notify_url  TEXT NOT NULL,
    state       TEXT NOT NULL,              -- queued, sent, timeout, ended
    asked_at    REAL NOT NULL,
    sent_at     REAL,
    lock_until  REAL,                       -- NULL: holds no lock
    ended_at    REAL,
    told        TEXT NOT NULL DEFAULT '',   -- what the merchant was told last, as JSON
    test_id     TEXT,                       -- of the machine, for a test
    sign        TEXT NOT NULL UNIQUE        -- of the request: a repeated one asks for nothing new
);
CREATE INDEX delivery_order ON delivery (order_id);
CREATE INDEX delivery_record ON delivery (record_id);
CREATE INDEX delivery_queue ON delivery (machine_no, number) WHERE state = 'queued';
CREATE INDEX delivery_waits ON delivery (asked_at) WHERE state = 'queued';
CREATE INDEX delivery_lock ON delivery (machine_no) WHERE lock_until IS NOT NULL;
CREATE INDEX delivery_tests ON delivery (asked_at) WHERE order_id IS NULL;
CREATE INDEX delivery_sent ON delivery (sent_at) WHERE state = 'sent';
CREATE INDEX delivery_test ON delivery (machine_no, test_id) WHERE test_id IS NOT NULL;

CREATE TABLE unit (
    delivery_id TEXT NOT NULL REFERENCES delivery (delivery_id),
    unit        INTEGER NOT NULL,
    status      INTEGER NOT NULL,           -- of the API's delivery log: deliveries.UnitStatus
    revision    INTEGER NOT NULL DEFAULT 0, -- of the machine; 0: it has not said anything yet
    reason      TEXT NOT NULL DEFAULT '',
    channel     TEXT NOT NULL DEFAULT '',
    words       TEXT NOT NULL DEFAULT '',   -- of the board, for the merchant
    floor       TEXT NOT NULL DEFAULT '',
    late        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (delivery_id, unit)
) WITHOUT ROWID;

CREATE TABLE command (                      -- towards machines, until the broker has it
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    machine_no TEXT NOT NULL,
    leaf       TEXT NOT NULL,
    payload    BLOB NOT NULL,
    drop_at    REAL NOT NULL                -- of no use any more
);

CREATE TABLE callback (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id INTEGER NOT NULL,              -- negative: a lane's test, see deliveries
    url      TEXT NOT NULL,
    body     BLOB NOT NULL,
    made_at  REAL NOT NULL,
    tries    INTEGER NOT NULL DEFAULT 0,
    again_at REAL NOT NULL,
    state    TEXT NOT NULL DEFAULT 'due',   -- due, told, given_up
    why      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX callback_due ON callback (again_at, id) WHERE state = 'due';
CREATE INDEX callback_next ON callback (order_id, id) WHERE state = 'due';
CREATE INDEX callback_order ON callback (order_id);

CREATE TABLE journal (                      -- of a machine: what was booked without a gap
    machine_no TEXT NOT NULL,
    journal    INTEGER NOT NULL,
    upto       INTEGER NOT NULL,
    ask_at     REAL,                        -- a gap: ask the machine then
    PRIMARY KEY (machine_no, journal)
) WITHOUT ROWID;
CREATE INDEX journal_gap ON journal (ask_at) WHERE ask_at IS NOT NULL;
CREATE TABLE ahead (                        -- booked behind a gap
    machine_no TEXT NOT NULL,
    journal    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (machine_no, journal, seq)
) WITHOUT ROWID;

CREATE TABLE counter (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
