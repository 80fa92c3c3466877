"""Who is let in through OAuth: what airflow_runtime.sign_in makes of what a provider says."""


import types

import pytest
from airflow_runtime import sign_in as module

OPTIONS = {
    "kind": "oidc", "allowed_domains": ["example.com"], "allowed_groups": [], "domain_claim": "",
    "groups_claim": "groups", "require_verified_email": True
}
CLAIMS = {
    "sub": "1", "email": "Ann@Example.com", "email_verified": True, "given_name": "Ann", "family_name": "Lee",
    "groups": ["data", "all"]
}


@pytest.fixture(scope="module")
def sign_in():
    return module


class OpenID:
    """What Authlib has of a provider: its page about a person, where it has one."""

    def __init__(self, page=None):
        self.page = page

    def load_server_metadata(self):
        return {"userinfo_endpoint": "https://id.example.com/me"} if self.page is not None else {}

    def userinfo(self, token, timeout):
        assert token["access_token"] and timeout
        return self.page


class GitHub:
    def __init__(self, **answers):
        self.answers = {
            "user": {"login": "ann", "name": "Ann Lee"}, "user/emails": [], "user/orgs": [], "user/teams": [], **answers
        }

    def get(self, path, token, timeout):
        assert token["access_token"] and timeout
        return types.SimpleNamespace(raise_for_status=lambda: None, json=lambda: self.answers[path.partition("?")[0]])


def enter(sign_in, claims=None, page=None, **options):
    token = {"access_token": "t", "userinfo": {**CLAIMS, **(claims or {})}}
    return sign_in.user(OpenID(page), token, {**OPTIONS, **options})


def test_a_person_of_an_allowed_domain_comes_in(sign_in):
    assert enter(sign_in) == {
        "username": "ann@example.com", "email": "ann@example.com", "first_name": "Ann", "last_name": "Lee",
        "role_keys": ["data", "all", "ann@example.com"]
    }


@pytest.mark.parametrize("address", [
    "ann@evil-example.com", "ann@example.com.evil.org", "ann@sub.example.com", "ann@example.com.", "ann@exampleXcom",
    "ann@example.com@evil.org",
    "ann@evil.org@example.com", '"ann@evil.org"@example.com', "ann@evil.org\n@example.com", "ann@example.com\n",
    "ann@evil.org,ann@example.com",
    "ann@EXAMPLE.COM.EVIL.ORG", "example.com", "@example.com", "ann@", "", None, ["ann@example.com"], {"a": 1},
    # The sign of the Kelvin becomes a k when it is made small, and a Cyrillic a only looks like one.
    "ann@ex\u0430mple.com", "ann@example.com\u3002evil.org",
])
def test_an_address_that_is_not_of_an_allowed_domain_is_refused(sign_in, address):
    with pytest.raises(sign_in.Refused):
        enter(sign_in, {"email": address})


def test_a_letter_that_becomes_another_one_when_it_is_made_small_is_refused(sign_in):
    assert "\u212a".lower() == "k"
    with pytest.raises(sign_in.Refused):
        enter(sign_in, {"email": "ann@\u212a.com"}, allowed_domains=["k.com"])


@pytest.mark.parametrize("verified", [False, None, "false", "", "yes", 0, "False"])
def test_an_address_that_was_not_verified_is_refused_unless_the_site_trusts_the_provider(sign_in, verified):
    with pytest.raises(sign_in.Refused, match="not verified"):
        enter(sign_in, {"email_verified": verified})
    assert enter(sign_in, {"email_verified": verified}, require_verified_email=False)["username"] == "ann@example.com"


def test_without_an_address_nobody_comes_in_whatever_the_group(sign_in):
    with pytest.raises(sign_in.Refused, match="no e-mail"):
        enter(sign_in, {"email": None}, allowed_domains=[], allowed_groups=["data"], require_verified_email=False)


@pytest.mark.parametrize("groups", [["other"], [], None, "other", {"data": 1}, [["data"]], ["Data"], ["data-evil"]])
def test_who_is_in_no_allowed_group_is_refused(sign_in, groups):
    with pytest.raises(sign_in.Refused, match="allowed groups"):
        enter(sign_in, {"groups": groups}, allowed_groups=["data"])


def test_a_single_group_may_come_as_text(sign_in):
    assert enter(sign_in, {"groups": "data"}, allowed_groups=["data"])["role_keys"] == ["data", "ann@example.com"]


def test_groups_are_read_where_the_provider_has_them(sign_in):
    assert enter(sign_in, {"cognito:groups": ["ops"]}, groups_claim="cognito:groups",
                 allowed_groups=["ops"])["role_keys"][0] == "ops"


def test_domain_and_group_are_both_needed_where_both_are_given(sign_in):
    with pytest.raises(sign_in.Refused, match="domains"):
        enter(sign_in, {"email": "ann@evil.org"}, allowed_groups=["data"])
    with pytest.raises(sign_in.Refused, match="groups"):
        enter(sign_in, {"groups": []}, allowed_groups=["data"])


def test_where_nothing_says_who_may_come_in_nobody_may(sign_in):
    with pytest.raises(sign_in.Refused, match="neither"):
        enter(sign_in, allowed_domains=[])


@pytest.mark.parametrize(
    ("claims", "good"),
    [({"hd": "example.com"}, True), ({"hd": "Example.com"}, True), ({}, False), ({"hd": "evil.org"}, False)],
)
def test_an_account_of_somebody_else_under_an_address_of_the_firm_is_refused(sign_in, claims, good):
    if good:
        assert enter(sign_in, claims, domain_claim="hd")
    else:
        with pytest.raises(sign_in.Refused, match="organisation"):
            enter(sign_in, claims, domain_claim="hd")


def test_what_the_signed_token_says_counts_more_than_the_page(sign_in):
    page = {"sub": "1", "email": "boss@example.com", "groups": ["admins"], "email_verified": "true", "locale": "de"}
    assert enter(sign_in, page=page)["role_keys"] == ["data", "all", "ann@example.com"]
    token = {"access_token": "t", "userinfo": {"sub": "1"}}
    assert sign_in.user(OpenID(page), token, OPTIONS)["role_keys"] == ["admins", "boss@example.com"]


def test_a_page_about_somebody_else_is_refused(sign_in):
    with pytest.raises(sign_in.Refused, match="two people"):
        enter(sign_in, page={"sub": "2"})


def test_an_answer_without_an_id_token_is_refused(sign_in):
    with pytest.raises(sign_in.Refused, match="ID token"):
        sign_in.user(OpenID({"sub": "1"}), {"access_token": "t"}, OPTIONS)


def test_the_name_is_never_one_that_the_person_chose(sign_in):
    assert enter(sign_in,
                 {"preferred_username": "admin", "nickname": "admin", "name": "admin"})["username"] == "ann@example.com"


def test_names_that_are_missing_or_long_are_no_obstacle(sign_in):
    assert enter(sign_in, {"given_name": None, "family_name": None})["first_name"] == "ann"
    assert len(enter(sign_in, {"given_name": "A" * 500})["first_name"]) == 64


EMAILS = [{"email": "ann@home.example", "verified": True,
           "primary": False}, {"email": "ann@example.com", "verified": True, "primary": False},
          {"email": "ann@primary.example", "verified": True, "primary": True}]
TEAMS = {"user/orgs": [{"login": "acme"}], "user/teams": [{"slug": "data", "organization": {"login": "acme"}}]}


def github(sign_in, options, **answers):
    return sign_in.user(GitHub(**{"user/emails": EMAILS, **TEAMS, **answers}), {"access_token": "t"},
                        {**OPTIONS, "kind": "github", **options})


@pytest.mark.parametrize("group", ["acme", "acme/data"])
def test_github_organisations_and_teams_are_groups_and_the_first_address_is_the_primary_one(sign_in, group):
    user = github(sign_in, {"allowed_domains": [], "allowed_groups": [group]})
    assert (user["username"], user["role_keys"]) == (
        "ann@primary.example",
        ["acme", "acme/data", "ann@primary.example"],
    )
    with pytest.raises(sign_in.Refused):
        github(sign_in, {"allowed_domains": [], "allowed_groups": [group]}, **{"user/orgs": [], "user/teams": []})


def test_github_address_of_the_allowed_domain_is_taken_where_it_is_verified(sign_in):
    assert github(sign_in, {})["username"] == "ann@example.com"
    with pytest.raises(sign_in.Refused):
        github(sign_in, {}, **{"user/emails": [EMAILS[0], {**EMAILS[1], "verified": False}]})
