CREATE TABLE votes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), contestant text NOT NULL, points integer NOT NULL DEFAULT 1) WITH (append_only);
CREATE TABLE players (name text PRIMARY KEY, team text NOT NULL, score bigint NOT NULL);
CREATE TABLE seen (what text NOT NULL);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant;
CREATE MATERIALIZED VIEW best AS SELECT name, score FROM players ORDER BY score DESC, name LIMIT 2;
GRANT INSERT ON votes, seen TO anon;
GRANT ALL ON players TO anon;
GRANT SELECT ON tally, best, seen TO anon;
