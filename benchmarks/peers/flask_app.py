"""The Flask peer: sign in, send a message by form, poll notifications, as in the Flask Mega-Tutorial's microblog.

The same libraries (Flask-Login, Flask-WTF, SQLAlchemy's ORM), tables, queries and commits, ``last_seen`` of every
request included, without the rest of the application. It runs under gunicorn, with ``DATABASE_URL`` and ``SECRET_KEY``
from the environment; ``python -m benchmarks.peers.flask_app`` creates its users.
"""

import json
import os
from datetime import UTC, datetime
from time import time
from typing import Any

from flask import Flask, flash, jsonify, redirect, render_template_string, request, url_for
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_wtf import FlaskForm
from sqlalchemy import ForeignKey, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, WriteOnlyMapped, mapped_column, relationship, scoped_session
from sqlalchemy.orm import sessionmaker as session_maker
from werkzeug.security import check_password_hash, generate_password_hash
from wtforms import StringField, TextAreaField
from wtforms.validators import DataRequired, Length

USERS = 32
PASSWORD = "a password for benchmarks"

FORM = """<!doctype html>
<form method="post">{{ form.hidden_tag() }}{{ form.message }}<input type="submit" value="Send"></form>"""


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    pass


class User(UserMixin, Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    password_hash: Mapped[str] = mapped_column(String(256))
    last_seen: Mapped[datetime] = mapped_column(default=now)
    last_message_read_time: Mapped[datetime | None]

    messages_received: WriteOnlyMapped["Message"] = relationship(
        foreign_keys="Message.recipient_id", back_populates="recipient"
    )
    notifications: WriteOnlyMapped["Notification"] = relationship(back_populates="user")

    def unread_message_count(self) -> int:
        last_read = self.last_message_read_time or datetime(1900, 1, 1)  # noqa: DTZ001
        query = select(Message).where(Message.recipient == self, Message.timestamp > last_read)
        return db.scalar(select(func.count()).select_from(query.subquery())) or 0

    def add_notification(self, name: str, data: Any) -> None:
        db.execute(self.notifications.delete().where(Notification.name == name))
        db.add(Notification(name=name, payload_json=json.dumps(data), user=self))


class Message(Base):
    __tablename__ = "message"

    id: Mapped[int] = mapped_column(primary_key=True)
    sender_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    recipient_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    body: Mapped[str] = mapped_column(String(140))
    timestamp: Mapped[datetime] = mapped_column(index=True, default=now)

    author: Mapped[User] = relationship(foreign_keys=sender_id)
    recipient: Mapped[User] = relationship(foreign_keys=recipient_id, back_populates="messages_received")


class Notification(Base):
    __tablename__ = "notification"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    timestamp: Mapped[float] = mapped_column(index=True, default=time)
    payload_json: Mapped[str]

    user: Mapped[User] = relationship(back_populates="notifications")


class LoginForm(FlaskForm):
    username = StringField(validators=[DataRequired()])
    password = StringField(validators=[DataRequired()])


class MessageForm(FlaskForm):
    message = TextAreaField("Message", validators=[DataRequired(), Length(min=0, max=140)])


app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
login = LoginManager(app)
login.login_view = "sign_in"
engine = create_engine(os.environ["DATABASE_URL"])
db = scoped_session(session_maker(engine))


@app.teardown_appcontext
def remove_session(_: BaseException | None) -> None:
    db.remove()


@login.user_loader
def load_user(user_id: str) -> User | None:
    return db.get(User, int(user_id))


@app.before_request
def note_last_seen() -> None:
    if current_user.is_authenticated:
        current_user.last_seen = now()
        db.commit()


@app.route("/login", methods=["GET", "POST"])
def sign_in() -> Any:
    form = LoginForm()
    if form.validate_on_submit():
        user = db.scalar(select(User).where(User.username == form.username.data))
        if user is not None and check_password_hash(user.password_hash, form.password.data or ""):
            login_user(user)
            return redirect(url_for("user", username=user.username))
    return render_template_string('<form method="post">{{ form.hidden_tag() }}{{ form.username }}</form>', form=form)


@app.route("/user/<username>")
@login_required
def user(username: str) -> str:
    return username


@app.route("/send_message/<recipient>", methods=["GET", "POST"])
@login_required
def send_message(recipient: str) -> Any:
    user = db.scalars(select(User).where(User.username == recipient)).one()
    form = MessageForm()
    if form.validate_on_submit():
        db.add(Message(author=db.get(User, current_user.id), recipient=user, body=form.message.data))
        user.add_notification("unread_message_count", user.unread_message_count())
        db.commit()
        flash("Your message has been sent.")
        return redirect(url_for("user", username=recipient))
    return render_template_string(FORM, form=form)


@app.route("/notifications")
@login_required
def notifications() -> Any:
    since = request.args.get("since", 0.0, type=float)
    query = current_user.notifications.select().where(Notification.timestamp > since)
    found = db.scalars(query.order_by(Notification.timestamp.asc()))
    return jsonify(
        [{"name": each.name, "data": json.loads(each.payload_json), "timestamp": each.timestamp} for each in found]
    )


def create() -> None:
    """Create the tables and the users ``user0``, ``user1``, ..."""
    Base.metadata.create_all(engine)
    password = generate_password_hash(PASSWORD, "pbkdf2:sha256:1000")
    db.add_all(User(username=f"user{number}", password_hash=password) for number in range(USERS))
    db.commit()


if __name__ == "__main__":
    create()
