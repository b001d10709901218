-- A song contest, voted live. Everything here is PostgreSQL's own syntax.

-- What is on: one row, written by the player and by the studio page.
CREATE TABLE show (
  id         text PRIMARY KEY CHECK (id = 'stage'),
  run        text NOT NULL,                       -- names one playing of one show: 0001-2022-final; later runs sort later
  year       integer NOT NULL,
  round      text NOT NULL,
  phase      text NOT NULL CHECK (phase IN ('waiting', 'jury', 'phone', 'ended')),
  speed      double precision NOT NULL DEFAULT 1 CHECK (speed >= 0.1 AND speed <= 1000),
  paused     boolean NOT NULL DEFAULT false,
  played_ms  bigint NOT NULL DEFAULT 0,           -- how far it has been played, at speed 1
  length_ms  bigint NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now()
);

-- Which shows could be played: filled from data/ by the player.
CREATE TABLE catalog (
  id         text PRIMARY KEY,                    -- 2022-final
  year       integer NOT NULL,
  round      text NOT NULL,
  givers     integer NOT NULL,                    -- countries that give points
  entries    integer NOT NULL                     -- countries that sing
);

-- Who sings in a run, so that the board is complete before the first point.
CREATE TABLE contestants (
  run        text NOT NULL,
  country    text NOT NULL,                       -- ISO 3166 code, or the one that it had in its time (YU, CS)
  PRIMARY KEY (run, country)
);

-- Every point and every call. The same id twice is one vote.
CREATE TABLE votes (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  run          text NOT NULL,
  feed         text NOT NULL CHECK (feed IN ('jury', 'phone', 'room')),
  from_country text,                              -- NULL: somebody in the room
  to_country   text NOT NULL,
  points       integer NOT NULL CHECK (points BETWEEN 1 AND 12),
  at           timestamptz NOT NULL DEFAULT now()
) WITH (append_only);

-- Open pages, each telling every ten seconds that it is there and how fast its screen is.
CREATE TABLE screens (
  id         text PRIMARY KEY,
  page       text NOT NULL,
  p50_ms     double precision,
  p99_ms     double precision,
  seen_at    timestamptz NOT NULL
);

-- The board: what counts is jury + phone; the room is shown beside it.
CREATE MATERIALIZED VIEW scoreboard AS
  SELECT run, to_country AS country,
         coalesce(sum(points) FILTER (WHERE feed <> 'room'), 0) AS total,
         coalesce(sum(points) FILTER (WHERE feed = 'jury'), 0)  AS jury,
         coalesce(sum(points) FILTER (WHERE feed = 'phone'), 0) AS phone,
         count(*) FILTER (WHERE feed = 'room')                  AS room
    FROM votes
   GROUP BY run, to_country;

-- The result, as it would be announced now: the room has no say in it.
CREATE MATERIALIZED VIEW official AS
  SELECT run, to_country AS country, sum(points) AS points
    FROM votes
   WHERE feed IN ('jury', 'phone')
   GROUP BY run, to_country;

-- The three at the front of the latest run.
CREATE MATERIALIZED VIEW podium AS
  SELECT run, country, total, jury, phone
    FROM scoreboard
   WHERE total > 0
   ORDER BY run DESC, total DESC, phone DESC, country
   LIMIT 3;

CREATE MATERIALIZED VIEW feeds AS
  SELECT run, feed, count(*) AS votes, sum(points) AS points
    FROM votes
   GROUP BY run, feed;

-- Votes per second and feed. A second leaves by itself half a minute later, with all its votes at once.
CREATE MATERIALIZED VIEW seconds AS
  SELECT date_trunc('second', at) AS second,
         count(*)                                AS votes,
         count(*) FILTER (WHERE feed = 'jury')   AS jury,
         count(*) FILTER (WHERE feed = 'phone')  AS phone,
         count(*) FILTER (WHERE feed = 'room')   AS room
    FROM votes
   WHERE date_trunc('second', at) > now() - interval '32 seconds'
   GROUP BY date_trunc('second', at);

CREATE MATERIALIZED VIEW pace AS
  SELECT second, votes, jury, phone, room FROM seconds ORDER BY second DESC;

-- The three that each feed likes best.
CREATE MATERIALIZED VIEW favourites AS
  SELECT run, feed, place, country, points
    FROM (SELECT run, feed, to_country AS country, sum(points) AS points,
                 row_number() OVER (PARTITION BY run, feed ORDER BY sum(points) DESC, to_country) AS place
            FROM votes
           GROUP BY run, feed, to_country) AS f
   WHERE place <= 3;

-- Pages that are open now.
CREATE MATERIALIZED VIEW connected AS
  SELECT id, page, p50_ms, p99_ms FROM screens WHERE seen_at > now() - interval '30 seconds';

-- The moment of every jury: its twelve points. (In the years before 1975 nobody gave twelve.)
CREATE MATERIALIZED VIEW twelves AS
  SELECT run, from_country, to_country, at
    FROM votes
   WHERE feed = 'jury' AND points = 12
   ORDER BY at DESC, from_country
   LIMIT 5;

-- Whoever can reach the page may vote and may run the studio. A real show gives the studio a role of its own.
GRANT SELECT ON show, catalog, contestants, screens, scoreboard, official, podium, feeds, pace, favourites, connected, twelves TO anon;
GRANT INSERT ON show, catalog, contestants, votes, screens TO anon;
GRANT UPDATE ON show, screens TO anon;
GRANT DELETE ON screens TO anon;
