-- Everybody on the page sees everybody's pointer. Nothing here is ever in the log.

CREATE TABLE pointers (
  x     double precision NOT NULL CHECK (x BETWEEN 0 AND 1), -- of the width of the page
  y     double precision NOT NULL CHECK (y BETWEEN 0 AND 1),
  color text NOT NULL CHECK (length(color) <= 7)
) WITH (channel, ttl = '30 seconds'); -- no key: one row for each connection, gone with it, or when it rested for so long

CREATE TABLE here (name text CHECK (length(name) <= 40)) WITH (presence, ttl = '5 seconds', list_up_to = 20);

GRANT SELECT, INSERT ON pointers, here TO anon;
