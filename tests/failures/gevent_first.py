"""gunicorn's configuration for gevent: patched before an application is loaded, as gevent wants it."""

from gevent import monkey

monkey.patch_all()
