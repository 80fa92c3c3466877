-- The sessions of this database whose role may write into it: pid, role, name of the program, address, kind of the
-- role. The one definition for modules left and fernet_key of airflow_runtime, for PostgreSQL
-- 13 and later. The address is empty over a socket, and "?" if PostgreSQL hides it from the role that asks. The kind is
-- own, superuser or other. A role that only reads, as that of a monitoring system, changes nothing, so its sessions are
-- left out.
WITH writer AS MATERIALIZED (
    SELECT oid FROM pg_roles
    WHERE rolname = current_user
       OR oid = (SELECT datdba FROM pg_database WHERE datname = current_database())
       -- Until PostgreSQL 15, it can give itself each right of another role. The master user of RDS is such a role.
       OR (rolcreaterole AND current_setting('server_version_num')::int < 160000)
       OR EXISTS (
           SELECT FROM pg_class
           WHERE relkind IN ('r', 'p', 'v')
             AND relnamespace IN (SELECT relnamespace FROM pg_class WHERE relname = 'alembic_version' AND relkind = 'r')
             AND (has_any_column_privilege(pg_roles.oid, pg_class.oid, 'INSERT, UPDATE')
                  OR has_table_privilege(pg_roles.oid, pg_class.oid, 'DELETE, TRUNCATE')))
)
SELECT pid, usename, coalesce(application_name, ''),
       CASE WHEN backend_type IS NULL THEN '?' ELSE coalesce(host(client_addr), '') END,
       CASE WHEN usename = current_user THEN 'own' WHEN rolsuper THEN 'superuser' ELSE 'other' END
FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid
-- PostgreSQL hides the type of another role's session too. Several hosts run left at the same time. hold keeps
-- Airflow from starting.
WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
  AND application_name NOT IN ('airflow-left', 'airflow-hold')
  -- Also a member that has to say SET ROLE first.
  AND EXISTS (SELECT FROM writer WHERE pg_has_role(usesysid, writer.oid, 'MEMBER'))
ORDER BY pid
