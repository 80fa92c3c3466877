-- For a client that fills in parameters: a percent sign of its own is doubled.
WITH
-- Read anew from the files, whether the server has loaded them or not.
file AS (SELECT name, sourcefile, sourceline, applied, error FROM pg_file_settings),
waiting AS (
  -- changed in a file, but fixed until the next start
  SELECT s.name FROM file f JOIN pg_settings s ON lower(f.name) = lower(s.name)
   WHERE f.error IS NOT NULL AND s.context = 'postmaster'
  UNION
  SELECT name FROM pg_settings WHERE pending_restart
  UNION
  -- gone from the files, but still in force
  SELECT s.name FROM pg_settings s
   WHERE s.context = 'postmaster' AND s.source = 'configuration file'
     AND NOT EXISTS (SELECT FROM file f WHERE lower(f.name) = lower(s.name))
),
broken AS (
  -- An error without a file is a setting that is gone: see above.
  SELECT format('line %%s of %%s: %%s %%s', f.sourceline, f.sourcefile, f.name, f.error) AS what FROM file f
   WHERE f.error IS NOT NULL AND f.sourcefile IS NOT NULL
     AND NOT EXISTS (SELECT FROM pg_settings s WHERE lower(s.name) = lower(f.name) AND s.context = 'postmaster')
  UNION ALL
  SELECT format('line %%s of %%s: %%s', line_number, current_setting('hba_file'), error) FROM pg_hba_file_rules WHERE error IS NOT NULL
)
SELECT
  (SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM waiting) AS restart,
  (SELECT coalesce(array_agg(what), '{}') FROM broken) AS invalid,
  (SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM file
    WHERE sourcefile = %(drop_in)s AND NOT applied AND error IS NULL) AS overridden,
  -- declared, and not there as declared
  (SELECT coalesce(array_agg(name), '{}') FROM json_to_recordset(%(databases)s) AS declared (name text, owner text)
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name AND pg_get_userbyid(datdba) = owner
                         AND pg_encoding_to_char(encoding) = 'UTF8')) AS databases,
  (SELECT coalesce(array_agg(name), '{}') FROM json_array_elements_text(%(users)s) AS declared (name)
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name AND rolcanlogin
                         AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication))) AS users,
  -- The inode's time: a copied file may keep the modification time of its source.
  (SELECT coalesce(bool_or((pg_stat_file(path, true)).change > pg_conf_load_time()), false)
     FROM unnest(array_append(string_to_array(%(files)s, ':'), current_setting('hba_file'))) AS path) AS stale
