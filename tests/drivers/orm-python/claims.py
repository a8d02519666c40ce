"""What Django and SQLAlchemy do to their sessions, through Headpond."""

import sys
import traceback

import django_claims
import sqlalchemy_claims
import watch

passed = failed = 0
for module in (django_claims, sqlalchemy_claims):
    for claim in module.CLAIMS:
        for mode in watch.PORTS:
            try:
                claim(mode)
                passed += 1
            except Exception:
                failed += 1
                print(f"FAILED {module.__name__} {claim.__name__}, {mode}")
                traceback.print_exc(file=sys.stdout)
print(f"orm-python: {passed} passed, {failed} failed")
sys.exit(failed > 0)
