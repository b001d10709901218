-- What the scenarios write and follow.
CREATE TABLE votes (
  id     integer PRIMARY KEY,
  run    text NOT NULL,
  who    text NOT NULL,
  points integer NOT NULL DEFAULT 1 CHECK (points BETWEEN 0 AND 1000),
  note   text
) WITH (append_only);

CREATE TABLE rooms (
  name text PRIMARY KEY,
  size integer NOT NULL CHECK (size > 0),
  note text
);

CREATE MATERIALIZED VIEW tally AS SELECT who, count(*) AS votes, sum(points) AS points FROM votes GROUP BY who;
CREATE MATERIALIZED VIEW big AS SELECT id, run, who, points FROM votes WHERE points >= 5;
CREATE MATERIALIZED VIEW podium AS SELECT id, who, points FROM votes ORDER BY points DESC, id LIMIT 3;
CREATE MATERIALIZED VIEW placed WITH (allow_unbounded = true) AS SELECT v.id, v.who, v.points, r.size FROM votes v JOIN rooms r ON r.name = v.run;

GRANT SELECT, INSERT ON votes TO anon;
GRANT ALL ON rooms TO anon;
GRANT SELECT ON tally TO anon;
GRANT SELECT ON big TO anon;
GRANT SELECT ON podium TO anon;
GRANT SELECT ON placed TO anon;
