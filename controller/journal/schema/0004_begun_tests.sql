-- Test vends that were begun and have no outcome yet. What a start finds here without an open
-- cycle never moved its motor.
CREATE TABLE begun_tests (
    test_id TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
