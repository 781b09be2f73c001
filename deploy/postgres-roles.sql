-- The roles of the PostgreSQL sink, with no more than they need. A superuser, or the owner of the database who may create
-- roles, runs this once in the database that the sink writes to, which should be one of its own.
--
-- `touchline` is the sink's user: it makes its tables, keeps them up to date, and can do nothing outside of its schema. Give it
-- a password (\password touchline) or a certificate. `touchline_reader` is granted to those who may look. Where [[sink]] says
-- another `schema`, that is the name to write here.

create role touchline login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
create role touchline_reader nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls;

-- By default everybody may connect and make temporary tables, and before PostgreSQL 15 everybody may make tables in `public`.
do $$
begin
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to touchline, touchline_reader', current_database());
end
$$;
revoke all on schema public from public;

-- Who gives something away to a role must be a member of it; a superuser is in any case.
grant touchline to current_user;
create schema touchline authorization touchline;
grant usage on schema touchline to touchline_reader;
alter default privileges for role touchline in schema touchline grant select on tables to touchline_reader;
-- `erase` is for who owns the rows.
alter default privileges for role touchline revoke execute on functions from public;
revoke touchline from current_user;
