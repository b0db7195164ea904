"""The operations of the API: each takes a request and its caller, and returns the JSON of the response."""

from http import HTTPStatus
from typing import Any, NamedTuple

from microblog_rt import protocol
from microblog_rt.accounts import session_name
from microblog_rt.errors import BadRequest, Invalid, NotFound, Refused
from microblog_rt.messages import Post
from microblog_rt.models import AccessToken, Session
from microblog_rt.notifications import Publication
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.services import Services
from microblog_rt.storage.pages import Page
from microblog_rt.web.api import body
from microblog_rt.web.api.body import ANYTHING, ITEMS, SECONDS, TEXT, TRUE, ApiRequest
from microblog_rt.web.api.callers import Caller
from microblog_rt.web.problems import status_of
from microblog_rt.web.sentences import sentence

PAGE, LARGEST_PAGE = 25, 100
LARGEST_BATCH = 500

Json = dict[str, Any]


class Result(NamedTuple):
    """The status and the JSON of a response."""

    status: HTTPStatus
    json: Json


async def send_message(services: Services, request: ApiRequest, caller: Caller, _: Json) -> Result:
    sent = body.fields(body.json_object(request), {"recipient": TEXT, "body": TEXT})
    key = body.program_key(request.values(b"idempotency-key"))
    message = await services.messages.send_once(caller.user_id, sent["recipient"], sent["body"], key)
    timestamp = message.timestamp / MICROSECONDS
    found = {"author": caller.username, "recipient": message.recipient, "body": message.body, "timestamp": timestamp}
    return Result(HTTPStatus.CREATED, found)


async def list_messages(services: Services, request: ApiRequest, caller: Caller, _: Json) -> Result:
    query = body.page(request, LARGEST_PAGE, PAGE)
    page = await services.messages.inbox(caller.user_id, query["limit"], query.get("before"), query.get("after"))
    rows = page.rows
    return _ok(
        messages=[_message(each) for each in rows],
        before=rows[-1].timestamp / MICROSECONDS if rows and page.next else None,
        after=rows[0].timestamp / MICROSECONDS if rows and page.previous else None,
    )


async def mark_read(services: Services, request: ApiRequest, caller: Caller, _: Json) -> Result:
    sent = body.fields(body.json_object(request), {}, {"from": SECONDS, "up_to": SECONDS, "all": TRUE})
    if not sent or ("all" in sent and len(sent) > 1):
        raise Invalid("all", "all_or_interval")
    first, last = sent.get("from", 0), sent.get("up_to")
    count = await services.messages.mark_read(
        caller.user_id,
        first=body.microseconds(first),
        last=protocol.FURTHEST if last is None else body.microseconds(last),
        write=body.write(request, caller.user_id, sent),
    )
    return _ok(**_notification(count))


async def publish(services: Services, request: ApiRequest, caller: Caller, path: Json) -> Result:
    sent = body.fields(body.json_object(request), {"data": ANYTHING})
    write = body.write(request, caller.user_id, sent)
    services.notifications.count(caller.user_id, 1)
    user = await services.site_users.known(path["name"])
    publication = Publication(user.id, path["key"], sent["data"])
    return _ok(**_notification(await services.notifications.publish(publication, write)))


async def delete(services: Services, request: ApiRequest, caller: Caller, path: Json) -> Result:
    body.empty(request)
    write = body.write(request, caller.user_id, None)
    services.notifications.count(caller.user_id, 1)
    user = await services.accounts.known(path["name"])
    return _ok(**_notification(await services.notifications.delete(user.id, path["key"], write)))


async def publish_all(services: Services, request: ApiRequest, caller: Caller, _: Json) -> Result:
    sent = body.fields(body.json_object(request), {"items": ITEMS})
    items = sent["items"]
    if not 1 <= len(items) <= LARGEST_BATCH:
        raise Invalid("items", "batch_length", limit=LARGEST_BATCH)
    write = body.write(request, caller.user_id, sent)
    services.notifications.count(caller.user_id, len(items))
    checked = [_item(each) for each in items]
    names = list(dict.fromkeys(each["user"] for each in checked if not isinstance(each, Refused)))
    ids = await services.accounts.ids(names)
    if await services.site_users.added(each for each in names if each not in ids):
        ids = await services.accounts.ids(names)  # as a retry finds them: two spellings may name one user
    results: list[Notification | Refused | None] = [None] * len(items)
    publications: dict[int, Publication] = {}
    for place, each in enumerate(checked):
        if isinstance(each, Refused):
            results[place] = each
        elif each["user"] not in ids:
            results[place] = NotFound("unknown_user", name=each["user"])
        else:
            publications[place] = Publication(ids[each["user"]], each["key"], each["data"])
    published = await services.notifications.publish_all(list(publications.values()), write)
    for place, result in zip(publications, published, strict=True):
        results[place] = result
    return _ok(results=[_result(each) for each in results])


async def list_sessions(services: Services, request: ApiRequest, caller: Caller, _: Json) -> Result:
    query = body.page(request, LARGEST_PAGE, LARGEST_PAGE, ("before",))
    page = await services.sessions.all_sessions(caller.user_id, query["limit"], query.get("before"))
    sessions = [
        {
            "id": session_name(each.token_hash),
            "device": each.device,
            "created": each.created / MICROSECONDS,
            "last_used": each.last_used / MICROSECONDS,
            "expires": each.expires / MICROSECONDS,
            "current": each.token_hash == caller.reader.token_hash,
        }
        for each in page.rows
    ]
    return _ok(username=caller.username, sessions=sessions, before=_next(page))


async def list_tokens(services: Services, request: ApiRequest, caller: Caller, _: Json) -> Result:
    query = body.page(request, LARGEST_PAGE, LARGEST_PAGE, ("before",))
    page = await services.tokens.page(caller.user_id, query["limit"], query.get("before"))
    tokens = [
        {
            "id": each.id,
            "name": each.name,
            "scopes": each.scopes.split(" "),
            "created": each.created / MICROSECONDS,
            "last_used": None if each.last_used is None else each.last_used / MICROSECONDS,
            "expires": None if each.expires is None else each.expires / MICROSECONDS,
            "current": each.id == caller.token_id,
        }
        for each in page.rows
    ]
    return _ok(username=caller.username, tokens=tokens, before=_next(page))


async def show_user(services: Services, request: ApiRequest, caller: Caller, path: Json) -> Result:
    user = await services.accounts.known(path["name"])
    since = user.member_since / MICROSECONDS
    return _ok(username=user.username, member_since=since, disabled=user.disabled)


async def end_sessions(services: Services, request: ApiRequest, caller: Caller, path: Json) -> Result:
    body.empty(request)
    return _ok(username=await services.site_users.end_all(path["name"]))


def problem_of(error: Refused) -> Json:
    """A problem (RFC 9457) as an item of a batch."""
    status = status_of(error).status
    head = {"type": "about:blank", "title": status.phrase, "status": status}
    return {**head, "code": error.code, "detail": sentence(error)}


def _item(item: Any) -> Json | Refused:
    try:
        return body.fields(item, {"user": TEXT, "key": TEXT, "data": ANYTHING})
    except BadRequest as error:
        return error


def _result(result: Notification | Refused | None) -> Json:
    if isinstance(result, Notification):
        return {"status": HTTPStatus.OK, "timestamp": result.timestamp / MICROSECONDS}
    return problem_of(result or Refused())


def _next(page: Page[Session] | Page[AccessToken]) -> float | None:
    """The key of the next page of what was created earlier; None if there is none."""
    return page.rows[-1].created / MICROSECONDS if page.rows and page.next else None


def _message(each: Post) -> Json:
    return {
        "author": each.author.username,
        "body": each.body,
        "timestamp": each.timestamp / MICROSECONDS,
        "created": each.created / MICROSECONDS,
        "unread": each.unread,
    }


def _notification(each: Notification) -> Json:
    return {"name": each.name, "data": each.data, "timestamp": each.timestamp / MICROSECONDS}


def _ok(**json: Any) -> Result:
    return Result(HTTPStatus.OK, json)
