-- The journal, version 1. Times are Unix seconds; REAL where parts of a second matter.
-- The integrity of sums, identities and "one open cycle" is held here, not in the code above.

-- One row: who this journal is, and every counter. Rewritten at the end of a transaction.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    birth INTEGER,
    bound INTEGER,
    doubted INTEGER NOT NULL DEFAULT 0,      -- lost or restored: the clock's skew is in the bound
    unconfirmed INTEGER NOT NULL DEFAULT 0,  -- new lanes wait for a technician's count
    seq INTEGER NOT NULL DEFAULT 0,
    event_seq INTEGER NOT NULL DEFAULT 0,
    cycle INTEGER NOT NULL DEFAULT 0,        -- low half of the newest cycle id
    newest_time REAL NOT NULL DEFAULT 0,     -- newest time written under a believed clock
    clean INTEGER NOT NULL DEFAULT 1,
    boot TEXT NOT NULL DEFAULT '',
    accepted INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    not_delivered INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    events_lost INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The identity of a command, for ever (P8). Pruning empties boot and removes units and cycles.
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL,
    delivery_id TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    content BLOB NOT NULL CHECK (length(content) = 16),
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    boot TEXT NOT NULL,
    units INTEGER NOT NULL CHECK (units > 0),
    delivered INTEGER NOT NULL DEFAULT 0,
    not_delivered INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,     -- 0 while open, 1 with the first `finished`
    started INTEGER NOT NULL DEFAULT 0,      -- a drive frame was written for a unit of it
    finished_at REAL,
    pruned INTEGER NOT NULL DEFAULT 0,
    CHECK (delivered >= 0 AND not_delivered >= 0 AND unknown >= 0),
    CHECK (delivered + not_delivered + unknown <= units),
    CHECK ((finished_at IS NOT NULL) = (delivered + not_delivered + unknown = units))
) STRICT;
CREATE UNIQUE INDEX orders_identity ON orders (order_id, delivery_id);
CREATE INDEX orders_trade ON orders (trade_id);
CREATE INDEX orders_open ON orders (id) WHERE finished_at IS NULL;
CREATE INDEX orders_unpruned ON orders (finished_at) WHERE pruned = 0 AND finished_at IS NOT NULL;

CREATE TABLE units (
    order_row INTEGER NOT NULL REFERENCES orders (id),
    number INTEGER NOT NULL CHECK (number > 0),
    product_id INTEGER NOT NULL,
    record_id INTEGER,
    channel TEXT NOT NULL,
    named INTEGER NOT NULL,
    running INTEGER NOT NULL DEFAULT 0,      -- it has an open cycle
    cycles INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,
    reason TEXT,
    evidence TEXT,
    revision INTEGER NOT NULL DEFAULT 0,
    started_at REAL,
    finished_at REAL,
    PRIMARY KEY (order_row, number),
    CHECK (outcome IN ('delivered', 'not_delivered', 'unknown')),
    CHECK ((outcome IS NULL) = (revision = 0)),
    CHECK (running = 0 OR outcome IS NULL)
) STRICT, WITHOUT ROWID;
-- Reservations are these rows: an undecided unit holds one item of its lane, nothing else does.
CREATE INDEX units_open ON units (channel) WHERE outcome IS NULL;

-- n is the low half of the cycle id, high its high half: ids of one board only grow.
CREATE TABLE cycles (
    n INTEGER PRIMARY KEY,
    high INTEGER NOT NULL,
    order_row INTEGER REFERENCES orders (id),
    unit INTEGER,
    test_id TEXT,
    channel TEXT NOT NULL,
    board TEXT NOT NULL,
    lane INTEGER NOT NULL,
    boot TEXT NOT NULL,
    ticket TEXT NOT NULL,
    timeout_s REAL NOT NULL,
    opened_at REAL NOT NULL,
    closed_at REAL,
    outcome TEXT,
    finding TEXT,
    trace TEXT,
    quarantined INTEGER NOT NULL DEFAULT 0,
    CHECK ((outcome IS NULL) = (closed_at IS NULL)),
    CHECK ((order_row IS NULL) <> (test_id IS NULL))
) STRICT;
CREATE INDEX cycles_board ON cycles (board, n);
CREATE INDEX cycles_channel ON cycles (channel, n);
CREATE INDEX cycles_unit ON cycles (order_row, unit) WHERE order_row IS NOT NULL;
CREATE UNIQUE INDEX cycles_open ON cycles (board) WHERE closed_at IS NULL;
CREATE INDEX cycles_quarantined ON cycles (n) WHERE quarantined = 1;
CREATE INDEX cycles_tests ON cycles (n) WHERE test_id IS NOT NULL;

CREATE TABLE lanes (
    channel TEXT PRIMARY KEY,
    cabinet TEXT NOT NULL,
    number INTEGER NOT NULL,
    product_id INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    initial_stock INTEGER NOT NULL,
    active INTEGER NOT NULL DEFAULT 1,
    confirmed INTEGER NOT NULL DEFAULT 1,
    stock INTEGER NOT NULL CHECK (stock >= 0),
    gone INTEGER NOT NULL DEFAULT 0 CHECK (gone >= 0),
    uncertain INTEGER NOT NULL DEFAULT 0 CHECK (uncertain >= 0),
    adjusted INTEGER NOT NULL DEFAULT 0,
    loaded INTEGER NOT NULL CHECK (loaded >= 0),
    counted_n INTEGER NOT NULL DEFAULT 0,    -- newest cycle when a person counted the lane
    health TEXT NOT NULL DEFAULT 'ok' CHECK (health IN ('ok', 'suspended', 'disabled')),
    health_reason TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0,
    cycles INTEGER NOT NULL DEFAULT 0,
    last_cycle_at REAL,
    CHECK (stock + gone + uncertain + adjusted = loaded)
) STRICT, WITHOUT ROWID;

-- Only cabinets that wait for a technician have a row.
CREATE TABLE cabinets (
    name TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE boards (
    name TEXT PRIMARY KEY,
    memory TEXT NOT NULL DEFAULT '{}',
    high INTEGER NOT NULL DEFAULT 0          -- its own high half of cycle ids after a collision
) STRICT, WITHOUT ROWID;

-- Results and order messages: bytes as they leave. sent_at NULL: the broker does not have it.
CREATE TABLE outbox (
    row INTEGER PRIMARY KEY,
    topic TEXT NOT NULL CHECK (topic IN ('result', 'order')),
    journal INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    order_row INTEGER,
    payload BLOB NOT NULL,
    at REAL NOT NULL,
    sent_at REAL
) STRICT;
CREATE INDEX outbox_unsent ON outbox (topic, row) WHERE sent_at IS NULL;
CREATE UNIQUE INDEX outbox_seq ON outbox (journal, seq);
CREATE INDEX outbox_order ON outbox (order_row) WHERE order_row IS NOT NULL;

-- Rejections of dispense and answers to cancel; a cancel with unknown_order is the tombstone.
CREATE TABLE answers (
    order_id INTEGER NOT NULL,
    delivery_id TEXT NOT NULL,
    verb TEXT NOT NULL CHECK (verb IN ('dispense', 'cancel')),
    issued_at INTEGER NOT NULL,
    code TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    message TEXT NOT NULL,
    outbox_row INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (order_id, delivery_id, verb, issued_at, code, trade_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_age ON answers (outbox_row);

CREATE TABLE events (
    event_seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT,
    at REAL NOT NULL,
    detail TEXT NOT NULL,
    payload BLOB NOT NULL,
    sent_at REAL,
    lost INTEGER NOT NULL DEFAULT 0          -- over the bound before it could leave
) STRICT;
CREATE UNIQUE INDEX events_key ON events (key) WHERE key IS NOT NULL;
CREATE INDEX events_unsent ON events (event_seq) WHERE sent_at IS NULL AND lost = 0;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_target ON audit (target, id);

INSERT INTO journal (id) VALUES (1);
