"""Delete an account, with everything that its user has sent and received."""

from microblog_rt import security_log
from microblog_rt.accounts import Accounts
from microblog_rt.errors import NotFound
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.messages import Messages
from microblog_rt.storage import removal


class Removal:
    """Deletes accounts."""

    def __init__(self, accounts: Accounts, messages: Messages, mailboxes: Mailboxes) -> None:
        self._accounts = accounts
        self._messages = messages
        self._mailboxes = mailboxes

    async def delete(self, username: str) -> None:
        """Delete a user: first every session, token and link, then the messages, then the account itself.

        Open streams end at once. Each step keeps every counter exact. If it is interrupted, the account stays disabled,
        and another call deletes the rest. Raises NotFound, Unavailable.
        """
        user = await self._accounts.known(username)
        await self._accounts.disable(user.username)

        def work(change: Change) -> bool:
            change.tick(user.id)
            return removal.delete_user(change.tx, user.id)

        try:
            await self._messages.delete_of(user.id)
            # A send that had begun before the account was disabled may have been committed meanwhile.
            while not await self._mailboxes.change(user.id, work):
                await self._messages.delete_of(user.id)
        except NotFound:
            return  # another call was first
        security_log.note("account_deleted", user=user.username, user_id=user.id)
