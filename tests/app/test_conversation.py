from app.conversation import Conversation, fail_reply, finish_reply, stop_reply
from engine.messages import ChatMessage, ErrorReport, Finished, Timings, Usage

FINISHED = Finished("stop", Usage(10, 4, 6), Timings(0.2, 100.0, 20.0))


def test_a_chat_becomes_the_engines_messages() -> None:
    chat = Conversation()
    chat.add_user("Hi")
    reply = chat.begin_reply()
    reply.text = "Hello"
    finish_reply(reply, FINISHED)
    chat.add_user("And?")
    assert chat.for_engine() == (
        ChatMessage("user", "Hi"),
        ChatMessage("assistant", "Hello"),
        ChatMessage("user", "And?"),
    )
    assert (reply.state, reply.reason, reply.usage, reply.timings) == (
        "complete",
        "stop",
        FINISHED.usage,
        FINISHED.timings,
    )


def test_a_failed_empty_reply_does_not_break_the_alternation() -> None:
    chat = Conversation()
    chat.add_user("One")
    fail_reply(chat.begin_reply(), ErrorReport("engine", "It broke.", "Retry."))
    chat.add_user("Two")
    assert chat.for_engine() == (ChatMessage("user", "One\n\nTwo"),)


def test_a_stopped_reply_stays_stopped_when_the_engine_answers() -> None:
    reply = Conversation().begin_reply()
    reply.text = "part"
    stop_reply(reply)
    finish_reply(reply, FINISHED)
    assert (reply.state, reply.text, reply.timings) == ("stopped", "part", FINISHED.timings)


def test_a_reply_that_the_engine_cancelled_is_stopped() -> None:
    reply = Conversation().begin_reply()
    finish_reply(reply, Finished("cancelled", FINISHED.usage, FINISHED.timings))
    assert reply.state == "stopped"


def test_a_complete_reply_cannot_fail_or_stop() -> None:
    reply = Conversation().begin_reply()
    finish_reply(reply, FINISHED)
    stop_reply(reply)
    fail_reply(reply, ErrorReport("engine", "It broke.", "Retry."))
    assert reply.state == "complete"


def test_dropping_the_last_reply() -> None:
    chat = Conversation()
    assert chat.drop_last_reply() is None
    chat.add_user("One")
    assert chat.drop_last_reply() is None
    reply = chat.begin_reply()
    assert chat.last_reply is reply
    assert chat.drop_last_reply() is reply
    assert len(chat.messages) == 1
