"""Of an address of a tracking server everything is shown but what may be secret."""

import base64
from urllib.parse import quote, quote_plus

import pytest

from nclens.workflow.address import UNREADABLE, hide, parse

#: Passwords, each with a character that ends or divides an address where it is not escaped.
SECRETS = [
    *("tops/ecret", "/topsecret", "topsecret/", "tops ecret", "tops@ecret", "@topsecret", "tops#ecret", "tops?ecret"),
    *("tops%zzecret", "topsecret%", "tops\necret", "topsecret\n", "töpsecret", "tops:/ecret", "tops//ecret"),
    *("tops\\ecret", "tops[ecret", "tops]ecret", 'tops"ecret', "tops<ecret", "tops|ecret", "12/topsecret"),
    *("1?topsecret", "1#topsecret", "tops\tecret", "tops\u2028ecret", "topse\x00cret", "tops\uff20ecret", "tops^ecret"),
]
SERVERS = [
    "http://{}@example.org:5000",
    "https://{}@example.org/mlflow",
    "HTTP://{}@example.org",
    "http://{}@[::1]:5000",
    "http://{}@",
    "http://{}@/mlflow",
    "http:{}@example.org",
    "http:\\\\{}@example.org",
    "//{}@example.org",
    "{}@example.org:5000",
    "postgresql://{}@example.org/mlflow",
    "postgresql+psycopg2://{}@/mlflow?host=/tmp",
    "mysql+pymysql://{}@example.org:3306/mlflow",
    "mssql://{}@example.org",
    "sqlite://{}@/mlflow.db",
    "sqlite+pysqlcipher://{}@/mlflow.db",
    "databricks://{}@example.org",
    "file://{}@example.org/mlruns",
]
READABLE = [
    ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ("http://someone:secret@127.0.0.1:9/", "http://127.0.0.1:9/"),
    ("https://me:a%2Fb%40c%23%3F%25%0A@example.org:5000/mlflow/", "https://example.org:5000/mlflow/"),
    ("https://me:a:b!$&'()*+,;=~@example.org", "https://example.org"),
    ("https://token@example.org", "https://example.org"),
    ("https://:secret@example.org", "https://example.org"),
    ("http://me:@[fe80::1]:5000", "http://[fe80::1]:5000"),
    ("http://mlflow_server:5000", "http://mlflow_server:5000"),
    ("http://example.org/?token=secret", "http://example.org/"),
    ("postgresql://me:secret@example.org:5432/mlflow", "postgresql://example.org:5432/mlflow"),
    ("postgresql://mlflow@/mlflow?host=/run/socket", "postgresql:///mlflow"),
    ("postgresql://example.org/mlflow?user=me&password=secret", "postgresql://example.org/mlflow"),
    ("mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dsecret", "mssql+pyodbc:///"),
    ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ("sqlite:////home/me@work/My Studies/mlflow.db", "sqlite:////home/me@work/My Studies/mlflow.db"),
    ("sqlite:///mlflow.db?mode=ro", "sqlite:///mlflow.db"),
    ("sqlite:////home/me@work/My Studies/x.db?key=secret", "sqlite:////home/me@work/My Studies/x.db"),
    ("sqlite+pysqlcipher://:secret@/mlflow.db", "sqlite+pysqlcipher:///mlflow.db"),
    ("databricks", "databricks"),
    ("databricks://profile", "databricks://profile"),
    ("databricks://scope:secret", "databricks://scope"),
    ("databricks-uc://profile", "databricks-uc://profile"),
    ("file:///home/me/My Studies/mlruns", "file:///home/me/My Studies/mlruns"),
    ("file:/mlruns", "file:/mlruns"),
    ("file://me:secret@example.org/mlruns", "file://example.org/mlruns"),
    ("mlruns", "mlruns"),
    ("./mlruns", "./mlruns"),
    ("../Bücher/mlruns", "../Bücher/mlruns"),
    ("/home/me@work/mlruns", "/home/me@work/mlruns"),
    ("azureml://region.api.azureml.ms/mlflow/v1.0/x", "azureml://region.api.azureml.ms/mlflow/v1.0/x"),
]


@pytest.mark.parametrize("server", SERVERS)
def test_what_cannot_be_read_is_not_shown(server):
    for secret in SECRETS:
        for pair in (f"me:{secret}", f"{secret}:word", secret)[: 2 if server.startswith(("file:", "sqlite:")) else 3]:
            address = parse(server.format(pair))
            assert address.public == UNREADABLE, repr(server.format(pair))
            assert not address.is_readable
            assert "ecret" not in repr(address)


@pytest.mark.parametrize(("text", "public"), READABLE)
def test_an_address_is_shown_without_user_password_and_query(text, public):
    address = parse(text)
    assert address.public == public
    assert address.is_readable
    assert "secret" not in repr(address)


@pytest.mark.parametrize("server", [server for server in SERVERS if "}@" in server and "example.org" in server][:2])
@pytest.mark.parametrize("secret", [secret for secret in SECRETS if "\x00" not in secret])
def test_an_escaped_password_is_taken_as_it_is(server, secret):
    address = parse(server.format(f"{quote(secret, safe='')}:{quote(secret, safe='')}"))
    assert (address.user, address.password) == (secret, secret)
    assert address.public == server.format("").replace("@", "")


@pytest.mark.parametrize("secret", ["topsecret", "tops/e cret@#?%ä\n", "pq", "e"])
def test_errors_of_other_programs_lose_every_spelling_of_the_secrets(secret):
    escaped = quote(secret, safe="")
    address = parse(f"http://someone:{escaped}@example.org")
    basic = base64.b64encode(f"someone:{secret}".encode()).decode()
    for spelled in {secret, escaped, quote(secret), quote_plus(secret), repr(secret)[1:-1], escaped.lower(), basic}:
        for text in ("refused ({})", "at someone:{}@x", "someone%3A{}%40x", "'{}'", "failed: \\n{}"):
            shown = hide(text.format(spelled), address)
            assert "***" in shown or "//" in shown
            assert spelled not in shown.replace("refused", "").replace("failed", "")
            assert "someone" not in shown


def test_what_is_no_secret_of_an_error_stays():
    address = parse("postgresql://me:mlflow-72@example.org/mlflow?host=/run/socket&sslpassword=tops")
    assert hide('database "mlflow" does not exist in time', address) == 'database "mlflow" does not exist in time'
    assert hide("socket /run/socket for me, tops", address) == "socket /run/socket for ***, ***"
    assert hide("cannot read s3://key:sec/ret@bucket/x?token=abc", address) == "cannot read s3://bucket/x?token=***"
    assert hide("sqlite:////home/x@work/mlflow.db is locked", address) == "sqlite:////home/x@work/mlflow.db is locked"
    assert hide("bad xabc-12y", parse("https://abc-12@example.org")) == "bad x***y"
    assert hide("other-72 refused", address, "other-72", "") == "*** refused"
