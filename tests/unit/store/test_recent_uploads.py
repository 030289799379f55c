"""The tracker's cache of the uploads that it opened."""

from tawara.model.files import Upload
from tawara.store.recent_uploads import MOST_CACHED, RecentUploads


def upload(fid: int) -> Upload:
    return Upload(fid=fid, dmid=1, key=b"k", classid=0, devids=(1,), created_at=0)


def test_an_upload_is_cached_for_one_close() -> None:
    """The first close takes it from the cache; a second one has to query the database."""
    opened = RecentUploads()
    opened.add(upload(5))
    assert opened.take(5) == upload(5)
    assert opened.take(5) is None
    assert opened.take(6) is None


def test_the_oldest_is_dropped() -> None:
    """The cache is bounded, however many uploads are never closed."""
    opened = RecentUploads()
    for fid in range(MOST_CACHED + 10):
        opened.add(upload(fid))
    assert opened.take(9) is None
    assert opened.take(10) == upload(10)
