"""No password of MLFLOW_TRACKING_URI is shown: in messages, in errors of other programs and their causes, in files."""

import json
import os
import sqlite3
import traceback
from types import SimpleNamespace
from urllib.parse import quote

import mlflow
import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from requests.exceptions import InvalidURL
from sqlalchemy.exc import OperationalError

from nclens import cli
from nclens.workflow import tracking

RAW = "tops/e cret@#?%ä\n"
HTTP = f"http://someone:{quote(RAW, safe='')}@example.org:5000"
DATABASE = f"postgresql://someone:{quote(RAW, safe='')}@example.org/mlflow"
UNREADABLE = ["http://someone:tops/ecret@example.org", "someone:topsecret@example.org:5000", "http://a:tops ecret@b"]
PIECES = ("someone", "tops", "ecret", quote(RAW, safe=""))


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """A folder and an environment of the test's, which MLflow changes."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", tracking.USER, *tracking.SECRET):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def failure(monkeypatch, uri, error):
    """What is shown where MLflow raises this error, with everything that Python prints of it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(tracking, "_check_database", lambda: None)

    def client():
        try:
            raise RuntimeError(f"the cause: {RAW!r} of someone")
        except RuntimeError as cause:
            raise error from cause

    monkeypatch.setattr(mlflow, "MlflowClient", client)
    with pytest.raises(OSError, match=r"the tracking server|: ") as caught, tracking.connected():
        pass
    printed = "".join(traceback.format_exception(caught.value, chain=True))
    return str(caught.value), printed[printed.index("OSError") :]


@pytest.mark.parametrize(
    "kind",
    [
        MlflowException,
        InvalidURL,
        lambda text: OperationalError(text, {}, Exception(text)),
        ValueError,
        KeyError,
        PermissionError,
    ],
)
@pytest.mark.parametrize("uri", [HTTP, DATABASE])
def test_errors_and_their_causes_are_shown_without_the_secrets(monkeypatch, kind, uri):
    text = f"cannot read {uri}, password {RAW!r}, {quote(RAW)}, someone%3A{quote(RAW, safe='')}%40example.org"
    message, printed = failure(monkeypatch, uri, kind(text))
    assert not any(piece in message + printed for piece in PIECES[1:])
    assert "\n" not in message
    if kind in (MlflowException, InvalidURL):
        assert message.startswith(f"the tracking server {tracking.public_uri()} cannot be used: cannot read")
        assert "someone" not in message + printed


def test_an_error_that_hides_only_in_a_cause_is_not_shown_either(monkeypatch):
    message, printed = failure(monkeypatch, HTTP, ValueError("no such thing"))
    assert message == "ValueError: no such thing"
    assert not any(piece in printed for piece in PIECES)


def test_passwords_of_the_environment_are_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc-123-token")
    monkeypatch.setenv("PGPASSWORD", "topsecret")
    message, _ = failure(monkeypatch, "http://example.org", MlflowException("bad abc-123-token, topsecret"))
    assert message == "the tracking server http://example.org cannot be used: bad ***, ***; finished work is kept"


def test_errors_of_our_own_pass_unchanged(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:word@example.org")
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: SimpleNamespace(search_experiments=lambda max_results: []))
    with pytest.raises(ValueError, match=r"^no /home/me/file$"), tracking.connected():
        raise ValueError("no /home/me/file")


@pytest.mark.parametrize("uri", UNREADABLE)
def test_an_address_that_cannot_be_read_is_refused_before_anybody_may_print_it(monkeypatch, capsys, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(mlflow, "set_tracking_uri", lambda uri: pytest.fail("MLflow was given it"))
    for argv in (["ui-links"], ["track", "setup", "--spec", '{"study": "smoke"}', "--root", "results/smoke"]):
        monkeypatch.setattr("sys.argv", ["nclens", *argv])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = "".join(capsys.readouterr())
        assert end.value.code == 1
        assert "MLFLOW_TRACKING_URI is an address that cannot be read" in shown
        assert "(/ is %2F, @ is %40)" in shown
        assert shown.count("\n") == 1
        assert not any(piece in shown for piece in ("someone", "tops", "ecret"))
    assert tracking.public_uri() == "an address that cannot be read"
    monkeypatch.undo()


@pytest.mark.parametrize(("uri", "public"), [(HTTP, "http://example.org:5000"), (HTTP + "/?token=tops", None)])
def test_mlflow_is_given_a_servers_user_and_password_apart(monkeypatch, uri, public):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking._address_for_mlflow() == (public or "http://example.org:5000/") == tracking.public_uri()
    assert (os.environ[tracking.USER], os.environ[tracking.PASSWORD]) == ("someone", RAW)


def test_a_record_and_the_links_have_the_public_address(monkeypatch, tmp_path):
    run = SimpleNamespace(
        info=SimpleNamespace(run_id="r1", status="FINISHED", artifact_uri="mlflow-artifacts:/1"),
        data=SimpleNamespace(tags={tracking.DIGEST: "d"}),
    )
    experiment = SimpleNamespace(
        experiment_id="1", name="smoke", lifecycle_stage="active", artifact_location="x", tags={}
    )
    client = SimpleNamespace(
        search_experiments=lambda **keywords: [experiment],
        get_experiment_by_name=lambda name: experiment,
        search_runs=lambda *arguments, **keywords: [run],
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", HTTP)
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: client)
    tracking.record("smoke", "key", "d", {}, lambda client, run: None, tmp_path, tmp_path / "mlflow.json")
    written = (tmp_path / "mlflow.json").read_text()
    assert json.loads(written)["uri"] == "http://example.org:5000"
    links = tracking.addresses(5001)["smoke"]
    assert links["runs"] == "http://example.org:5000/#/experiments/1/runs?workflowType=machine_learning"
    assert not any(piece in written + str(links) for piece in PIECES)


def test_a_database_that_a_kill_left_half_made_is_made_again(monkeypatch):
    def killed(engine):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("create table datasets (id int)"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "_initialize_tables", killed)
        with tracking.connected():
            pass
    assert not os.path.exists("mlflow.db")
    with tracking.connected() as client:
        assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
    assert not os.path.exists("mlflow.db.new")
    with sqlite3.connect("mlflow.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_database_deleted_without_its_journal_is_made_again(tmp_path):
    database, journal = tmp_path / "mlflow.db", tmp_path / "mlflow.db-wal"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE other (number INTEGER)")
        connection.commit()
        left = journal.read_bytes()
    connection.close()
    database.unlink()
    journal.write_bytes(left)
    tracking._make_database(database)
    with sqlite3.connect(database) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "experiments" in names
    assert "other" not in names


def test_the_message_of_another_programs_database_names_it_in_full(monkeypatch, tmp_path):
    (tmp_path / "me@work").mkdir()
    with sqlite3.connect(tmp_path / "me@work" / "other.db") as connection:
        connection.execute("create table people (id int)")
    uri = f"sqlite:///{tmp_path}/me@work/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(OSError, match="holds people") as caught, tracking.connected():
        pass
    assert str(caught.value).startswith(f"the tracking server {uri} cannot be used: it is not MLflow's")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{uri}?timeout=5")
    with pytest.raises(OSError, match="holds people") as caught, tracking.connected():
        pass
    assert str(caught.value).startswith(f"the tracking server {uri} cannot be used: it is not MLflow's")
