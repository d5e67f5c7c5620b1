-- Three roles for one database: the owner migrates, the writer crawls, the reader reads.
--
-- Run it as a superuser in the database of the crawl, before the first migration or at any later time:
--
--     psql -d tweets -f docs/roles.sql
--
-- Then give each role a password (or a certificate, or peer authentication), and use
--     tweetcrawler_owner   for `alembic upgrade head` and `tweetcrawler db upgrade`
--     tweetcrawler_writer  for everything else that the program does
--     tweetcrawler_reader  for people and dashboards
--
-- The writer cannot create, alter or drop anything. This file may be run again at any time.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['tweetcrawler_owner', 'tweetcrawler_writer', 'tweetcrawler_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

-- In a database made before PostgreSQL 15, everyone may create tables in the schema public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO tweetcrawler_owner;
GRANT USAGE ON SCHEMA public TO tweetcrawler_writer, tweetcrawler_reader;

-- Rights on the tables that exist already.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tweetcrawler_writer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO tweetcrawler_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO tweetcrawler_reader;

-- Rights on the tables that the owner's migrations will create.
ALTER DEFAULT PRIVILEGES FOR ROLE tweetcrawler_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tweetcrawler_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE tweetcrawler_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO tweetcrawler_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE tweetcrawler_owner IN SCHEMA public
    GRANT SELECT ON TABLES TO tweetcrawler_reader;
