"""What a tracker remembers of the uploads that it opened."""

from tawara.model.files import Upload
from tawara.store.recent_uploads import MOST_CACHED, RecentUploads


def upload(fid: int) -> Upload:
    return Upload(fid=fid, dmid=1, key=b"k", classid=0, devids=(1,), created_at=0)


def test_an_upload_is_remembered_for_one_closing() -> None:
    """Whoever closes it gets it once; the next one has to ask the database."""
    opened = RecentUploads()
    opened.remember(upload(5))
    assert opened.take(5) == upload(5)
    assert opened.take(5) is None
    assert opened.take(6) is None


def test_the_oldest_is_forgotten() -> None:
    """The memory is bounded, however many uploads are never closed."""
    opened = RecentUploads()
    for fid in range(MOST_CACHED + 10):
        opened.remember(upload(fid))
    assert opened.take(9) is None
    assert opened.take(10) == upload(10)
