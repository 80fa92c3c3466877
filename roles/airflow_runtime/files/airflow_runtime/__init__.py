"""What runs on the hosts. It needs nothing of Ansible; what needs Airflow or psycopg2 imports it where it is used."""
